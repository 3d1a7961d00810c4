"""Every kind of fault that was found at the entrances is tried by tests, on more inputs than the one that showed it.

A kind stands for one cause: the tests named here make inputs of it, and assert what is right for each. The numbers are
those of the list of faults beside the project, where there is one, and so are the names of its generators.
"""

import re
from collections.abc import Callable, Collection
from math import prod
from typing import Any

import pytest

from tests import test_faults, test_files, test_literals, test_text
from tests.bundle import test_folder, test_reading, test_trust
from tests.bundles import test_neighbours
from tests.cli import test_canary, test_options, test_training_commands
from tests.datasets import (
    test_generators,
    test_integrity,
    test_label_values,
    test_layouts,
    test_odd_descriptions,
    test_odd_folders,
)
from tests.engines import test_panels
from tests.engines import test_resume as test_states
from tests.evaluation import test_folder as test_scored_folder
from tests.inference import test_cases, test_output_folder, test_resume
from tests.inference import test_dicom as test_segmented_dicom
from tests.inference import test_folder as test_segmented_folder
from tests.volumes import test_dicom, test_dicom_hostile, test_odd_files, test_one_grid
from tests.weights import test_checkpoint, test_refusals
from tests.workflows import test_kills
from tests.workflows import test_resume as test_resumed

Tried = Callable[..., Any] | Collection[Any]
"""A test, which counts for as many inputs as it has parameters, or a table of inputs that a test goes through."""


def refused(kind: str, *words: str) -> list[str]:
    """The odd files that are refused for one reason, or those of them whose names have one of the words."""
    names = [name for name, (_, reason) in test_odd_files.REFUSED.items() if reason == kind]
    return [name for name in names if not words or any(word in name for word in words)]


def option(*names: str) -> list[tuple[str, ...]]:
    """The values out of range that are tried for some options."""
    return [(name, value) for _, name, value in test_options.BAD if name in names]


KINDS: dict[str, dict[str, tuple[Tried, ...]]] = {
    "1": {
        "names from data are code": (
            test_canary.test_code_in_a_data_set_never_runs,
            test_canary.test_code_in_examinations_never_runs,
            test_literals.test_a_string_stays_a_string,
        ),
        "names are patterns": (test_odd_folders.test_names_of_all_kinds,),
    },
    "2": {"a foreign bundle runs its code": (test_canary.test_foreign_code_never_runs_unasked, test_trust.HARMFUL)},
    "3": {
        "gantry tilt": (
            test_dicom.test_a_tilted_gantry_shears_the_grid,
            test_segmented_dicom.test_labels_lie_where_the_tilted_frames_lie,
        ),
        "missing slices": (test_dicom.test_missing_slices_are_refused_or_interpolated,),
        "double slices": (test_dicom.test_double_slices_are_refused_by_name, test_dicom.test_copies_of_one_file),
        "slices cut short": (test_dicom_hostile.test_damaged_bytes,),
        "uneven slices": (
            test_dicom.test_uneven_slices_are_interpolated_between_their_neighbours,
            test_dicom.test_a_slice_moved_sideways_is_refused,
        ),
        "localizers": (test_dicom.test_localizers_in_the_series_are_left_out,),
        "two phases in one folder": (
            test_dicom.test_volumes_of_one_series_are_told_apart,
            test_dicom.test_stacks_of_an_enhanced_file,
        ),
        "frames in another order": (test_dicom.test_an_enhanced_file_is_read_by_its_frames,),
        "no images": (test_dicom.test_objects_that_are_no_scan_are_left_out,),
        "a series that is called after no folder": (test_segmented_dicom.test_a_series_where_one_stands_has_a_name,),
    },
    "4": {
        "stale voxel sizes": (test_one_grid.test_every_reader_sees_one_grid, test_one_grid.STALE),
        "no grid in space": (refused("affine"),),
        "no orientation": (refused("no_orientation"),),
        "complex numbers": (refused("complex"),),
        "a fourth axis, and single slices": (refused("not_3d"),),
        "checksums": (refused("checksum"),),
        "not finite": (refused("not_finite"),),
    },
    "5": {
        "0/1 beside 0/255": (test_label_values.test_white_masks_among_masks_of_one,),
        "nearly whole": (
            test_label_values.test_nearly_whole_values_are_rounded,
            test_scored_folder.test_nearly_whole_labels_are_scored,
        ),
        "probabilities and negative values": (
            test_scored_folder.test_what_is_no_label_map_is_never_rounded_into_one,
            test_label_values.test_what_is_no_label_is_refused_with_its_remedy,
        ),
        "the list against the folders": (test_odd_descriptions.test_labels_of_the_list_win_over_the_folder,),
        "a channel for another": (test_odd_folders.test_a_lost_channel_keeps_its_place,),
        "links that lead nowhere": (
            test_odd_folders.test_links_that_lead_nowhere_are_faults,
            test_odd_folders.test_folders_that_are_links_to_nothing,
            refused("missing"),
        ),
    },
    "6": {
        "values with gaps": (
            test_label_values.test_gaps_are_accepted,
            test_odd_descriptions.test_label_values_with_gaps,
            test_label_values.test_values_that_belong_together,
        )
    },
    "7": {
        "results in the place of inputs": (
            test_output_folder.test_inputs_are_never_among_the_results,
            test_output_folder.test_files_of_the_user_are_not_replaced,
        )
    },
    "8": {
        "names that meet": (test_cases.test_names_never_meet, test_odd_folders.test_names_that_differ_in_capitals_only)
    },
    "9": {
        "results that are no longer right": (
            test_resume.test_one_case_is_done_again,
            test_resume.test_a_damaged_manifest,
        ),
        "temporary files": (
            test_files.test_what_a_killed_process_left_is_swept_and_the_old_file_stays,
            test_files.test_a_folder_of_a_dead_process_is_swept_with_its_content,
            test_files.test_a_number_that_was_given_to_a_younger_process_does_not_protect,
            test_files.test_files_of_others_are_not_touched,
        ),
    },
    "10": {
        "signals": (
            test_folder.test_an_interrupted_training_says_what_to_type_next,
            test_resumed.test_the_command_says_what_to_type_and_typing_it_helps,
            test_kills.test_kills_cost_no_bit,
        ),
        "half-made bundles": (
            test_folder.test_a_refusal_leaves_nothing_in_the_way,
            test_folder.test_an_old_bundle_stays_until_the_new_one_is_complete,
            test_folder.test_a_bundle_that_refuses_to_begin_is_removed,
            test_folder.test_a_folder_of_other_things_is_never_emptied,
        ),
    },
    "11": {
        "claims of volumes": (refused("unreadable", "GB", "TB", "huge", "ever", "billion", "2^", "offset"),),
        "claims of weights": (test_checkpoint.test_broken_files, test_reading.BROKEN),
        "voxels of 100 mm": (test_output_folder.test_memory_is_compared_before_it_is_taken,),
    },
    "12": {
        "links in a circle": (
            test_odd_folders.test_folders_that_link_back_to_themselves,
            test_cases.test_folders_that_link_back_end,
            test_odd_folders.test_folders_that_are_links_to_nothing,
        ),
        "pipes and devices": (
            refused("not_a_file"),
            test_odd_folders.test_named_pipes_are_not_opened,
            test_cases.test_what_only_bears_the_name_of_a_manifest_is_not_read,
        ),
        "absurd numbers": (option("--batch-size", "--steps", "--subjects", "--seeds"),),
    },
    "13": {"options": (test_options.BAD,)},
    "14": {
        "the output folder": (
            test_output_folder.test_an_output_that_is_a_file,
            test_folder.test_a_disk_that_fails_while_a_bundle_is_trained_is_one_sentence,
            test_files.test_what_stands_in_the_way_is_said,
        ),
        "broken bundles": (test_reading.BROKEN,),
        "names in markup, mathtext and tables": (test_text.HOSTILE,),
        "descriptions": (
            test_odd_descriptions.test_what_is_no_json,
            test_odd_descriptions.test_encodings_of_unicode,
            test_odd_descriptions.test_labels_that_are_refused,
        ),
        "long and odd names": (test_cases.test_odd_names_can_be_written,),
    },
    "15": {
        "what libraries say": (test_odd_files.test_odd_but_read, test_resume.test_what_libraries_say_is_told_per_case)
    },
    "16": {
        "several volumes in a file": (test_integrity.test_channels_inside_a_file, test_layouts.test_nnunet_channels),
        "cases without a lesion": (
            test_label_values.test_some_cases_without_foreground_are_a_note,
            test_label_values.test_no_foreground_anywhere_is_a_fault,
            test_generators.test_a_case_without_lesion_is_used,
        ),
        "labels of Slicer": (test_odd_folders.test_slicer_labels,),
        "ways to write labels": (test_odd_descriptions.test_ways_to_write_labels,),
        "the mapping of nnU-Net": (
            test_odd_descriptions.test_the_mapping_of_nnunet_2,
            test_odd_descriptions.test_entries_of_the_mapping_that_are_refused,
        ),
    },
    "G": {
        "two processes in one folder": (
            test_segmented_folder.test_processes_share_a_folder,
            test_segmented_folder.test_shards_share_a_folder,
            test_segmented_folder.test_torchrun,
            test_folder.test_a_training_that_another_process_runs_is_left_alone,
        ),
        "many volumes": (test_segmented_folder.test_memory_does_not_grow_with_the_number_of_volumes, range(40)),
        "the same seed, the same bits": (test_states.test_the_bits_are_those_of_an_uninterrupted_training,),
        "panels on two grids": (
            test_panels.test_a_case_on_its_native_grid_is_left_out,
            test_panels.test_the_slice_with_most_foreground_is_drawn_with_both_contours,
            test_panels.test_without_a_label_the_prediction_chooses,
            test_neighbours.test_the_zoo_evaluates_after_it_looked_at_every_property,
        ),
        "faulty volumes before a training": (test_training_commands.test_a_faulty_volume_is_refused_before_training,),
        "pickles": (
            test_checkpoint.test_code_never_runs,
            test_checkpoint.test_python_objects_are_refused_by_name,
            test_refusals.test_a_pickled_module_is_named,
        ),
    },
}
"""Number of a kind -> its faults -> what tries them."""

GENERATORS: dict[str, tuple[Callable[..., Any], ...]] = {
    "01_gantry_tilt": (test_faults.test_a_series_is_segmented_where_it_lies, test_dicom.test_the_known_faults),
    "02_missing_slices": (test_faults.test_lost_slices_are_refused_or_kept_as_a_gap, test_dicom.test_the_known_faults),
    "04_localizer_in_series": (test_faults.test_a_series_is_segmented_where_it_lies, test_dicom.test_the_known_faults),
    "06_enhanced_shuffled_frames": (test_faults.test_a_series_is_segmented_where_it_lies,),
    "08_seg_beside_series": (test_faults.test_a_series_is_segmented_where_it_lies, test_dicom.test_the_known_faults),
    "09_stale_pixdim": (
        test_faults.test_a_stale_pixdim_moves_nothing,
        test_one_grid.test_stale_voxel_sizes_change_nothing,
    ),
    "10_broken_links": (
        test_faults.test_links_to_nothing_are_named,
        test_generators.test_a_subject_that_was_not_fetched_is_named,
    ),
    "13_case_without_lesion": (
        test_faults.test_a_case_without_lesion_is_learnt_from,
        test_generators.test_a_case_without_lesion_is_used,
    ),
    "14_sparse_label_values": (
        test_faults.test_label_values_with_gaps_come_out_as_they_went_in,
        test_generators.test_sparse_label_values_are_kept,
    ),
    "17_nnunet_dataset_json": (
        test_faults.test_each_form_of_a_description_gives_its_four_cases,
        test_generators.test_descriptions_of_nnunet_2,
    ),
}
"""Generator -> the tests that run it and assert what its first lines call right."""


def inputs(tried: Tried) -> int:
    """How many inputs a test or a table has."""
    if not callable(tried):
        return len(tried)
    marks = [mark for mark in getattr(tried, "pytestmark", ()) if mark.name == "parametrize"]
    return prod(len(list(mark.args[1])) for mark in marks)


@pytest.mark.parametrize("kind", KINDS)
def test_each_fault_is_tried_on_further_inputs(kind: str) -> None:
    counts = {fault: sum(map(inputs, several)) for fault, several in KINDS[kind].items()}
    assert {fault: count for fault, count in counts.items() if count < 4} == {}


def test_two_hundred_inputs_are_tried() -> None:
    tables = (test_odd_files.REFUSED, test_reading.BROKEN, test_options.BAD, test_trust.HARMFUL, test_text.HOSTILE)
    every = {tried for kind in KINDS.values() for several in kind.values() for tried in several if callable(tried)}
    assert sum(map(inputs, every)) + sum(map(len, tables)) >= 600


def test_the_list_of_faults_is_covered() -> None:
    listed = test_faults.FAULTS / "FAULTS.md"
    if not listed.is_file():
        pytest.skip("the list of faults is not here: ../shared/faults is absent")
    text = listed.read_text(encoding="utf-8")
    assert {*re.findall(r"^(\d+)\. ", text, re.MULTILINE), "G"} == set(KINDS)
    assert {path.stem for path in test_faults.FAULTS.glob("*.py")} == set(GENERATORS)
