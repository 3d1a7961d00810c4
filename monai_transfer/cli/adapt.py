"""``monai-transfer adapt``: a bundle for the target from labels of the source."""

from contextlib import nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import typer

from monai_transfer.cli import console
from monai_transfer.cli.diagnosis_training import SizeOption, adapt_diagnosis_bundle_command, adapt_diagnosis_command
from monai_transfer.cli.options import (
    AllowIrregularOption,
    AssumeAffineOption,
    CasesOption,
    DeviceOption,
    DryRunOption,
    JobsOption,
    JsonOption,
    MinutesOption,
    NetworkOption,
    OverwriteOption,
    ResumeOption,
    SeedOption,
    SpacingOption,
    StartOption,
    StepsOption,
    TaskOption,
    TrainingPrecisionOption,
    TrustOption,
)
from monai_transfer.cli.profile import adapt_to_profile_command, holds_profile
from monai_transfer.errors import UserError
from monai_transfer.options import Jobs, checked, given_of, refuse_given, require_options_of, split_list, split_numbers


def adapt_command(
    target: Annotated[
        Path,
        typer.Option(
            help="Data set of the domain to adapt to; its labels are used for scoring only, but for those of "
            "--labelled-target-cases. Or what `profile` measured in it."
        ),
    ],
    output: Annotated[Path, typer.Option(help="Bundle folder to make.")],
    task: TaskOption = "segmentation",
    source: Annotated[
        list[Path] | None, typer.Option(help="Labelled data set; repeat to learn from several with the same labels.")
    ] = None,
    bundle: Annotated[
        Path | None, typer.Option(help="A trained bundle to adapt without its training data, in place of --source.")
    ] = None,
    test: Annotated[Path | None, typer.Option(help="Labelled target data set for the scores.")] = None,
    source_cases: CasesOption = None,
    target_cases: CasesOption = None,
    test_cases: CasesOption = None,
    labelled_target_cases: Annotated[
        str | None, typer.Option(help="Target cases whose labels are learnt too (semi-supervised adaptation).")
    ] = None,
    method: Annotated[
        list[str] | None,
        typer.Option(
            help="Method by name (DANN, MeanTeacher, …) or import path; repeat to combine. With --bundle: "
            "consistency (of two views of each image) or entropy."
        ),
    ] = None,
    weights: StartOption = None,
    network: NetworkOption = None,
    spacing: SpacingOption = None,
    size: SizeOption = None,
    steps: StepsOption = None,
    minutes: MinutesOption = None,
    learning_rate: Annotated[float | None, typer.Option(help="Peak learning rate.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Cases per domain and step.")] = None,
    precision: TrainingPrecisionOption = None,
    body_scale: Annotated[
        float | None, typer.Option(help="Size of the target's bodies beside the source's, in place of a measurement.")
    ] = None,
    within: Annotated[
        Path | None,
        typer.Option(help="A bundle of the same labels: learn, and later segment, in the box where it finds them."),
    ] = None,
    oracle: Annotated[bool, typer.Option(help="Train the ceiling too, where target labels allow it.")] = True,
    keep_adapted: Annotated[
        bool, typer.Option("--keep-adapted", help="Keep the adapted weights even where source-only looks better.")
    ] = False,
    assume_affine: AssumeAffineOption = False,
    allow_irregular: AllowIrregularOption = False,
    device: DeviceOption = "auto",
    seed: SeedOption = 0,
    trust: TrustOption = False,
    overwrite: OverwriteOption = False,
    resume: ResumeOption = False,
    jobs: JobsOption = None,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Adapt to a domain without labels and report source-only, adapted and oracle.

    With --bundle in place of --source a trained network is adapted to the target's images alone, and rolled back
    where it looks worse. With --task diagnosis the domains are folders per class, or lists of examinations. Where the
    target's images have to stay elsewhere, --target is the file that monai-transfer profile wrote there.

    Example: monai-transfer adapt --source CT --target MR --output ct_to_mr
    """
    if bool(source) == (bundle is not None):
        raise UserError("Give either --source, a labelled data set, or --bundle, a trained bundle.")
    reads = {"assume_affine": assume_affine, "allow_irregular": allow_irregular}
    chosen = {"source_cases": source_cases, "target_cases": target_cases, "test_cases": test_cases}
    segmenting: dict[str, object] = {**chosen, "labelled_target_cases": labelled_target_cases}
    segmenting |= {**reads, "weights": weights, "minutes": minutes, "jobs": jobs, "precision": precision}
    segmenting |= {"body_scale": body_scale, "within": within}
    require_options_of(task, segmentation=segmenting, diagnosis={"size": size})
    if jobs is not None:
        checked(Jobs, jobs)
    if task == "diagnosis" and bundle is not None:
        refuse_given(
            {"method": method, "network": network, "size": size, "resume": resume}, "{} goes with --source: omit it."
        )
        how: dict[str, Any] = {"steps": steps, "learning_rate": learning_rate, "seed": seed, "device": device}
        how |= {"trust": trust, "overwrite": overwrite, "dry_run": dry_run, "as_json": as_json}
        return adapt_diagnosis_bundle_command(bundle, target, output, test=test, **how)
    if task == "diagnosis":
        adapt_diagnosis_command(
            source or [],
            target,
            output,
            test=test,
            methods=method,
            oracle=oracle,
            keep_adapted=keep_adapted,
            overwrite=overwrite,
            resume=resume,
            dry_run=dry_run,
            as_json=as_json,
            spacing=split_numbers(spacing, "--spacing"),
            size=size,
            network=network,
            steps=steps,
            learning_rate=learning_rate,
            batch_size=batch_size,
            seed=seed,
            device=device,
        )
        return
    if bundle is not None:
        if labelled_target_cases:
            raise UserError(
                "--labelled-target-cases goes with --source: to learn labels with a --bundle, use finetune."
            )
        refuse_given({"bundle": minutes}, "{} is adapted within a minute or two: omit --minutes.")
        refuse_given({"bundle": jobs}, "{} is adapted by one training: omit --jobs.")
        of_training: dict[str, object] = {"source_cases": source_cases, "network": network, "spacing": spacing}
        of_training |= {"batch_size": batch_size, "precision": precision, "keep_adapted": keep_adapted}
        of_training |= {"body_scale": body_scale, "within": within}
        refuse_given(of_training, "{} goes with --source: omit it.")
        if len(method or ()) > 1:
            raise UserError(
                "--method is given more than once, but a --bundle is adapted by one: consistency or entropy."
            )
        if weights:
            raise UserError("--weights goes with --source: a --bundle brings its own; omit --weights.")
        if resume:
            raise UserError(
                "--resume goes with --source: adapting a --bundle takes a minute; give --overwrite instead."
            )

    from monai_transfer.bundle.request import PlanOptions, choose_domains, labelled_cases
    from monai_transfer.volumes.volume import Reading

    options = PlanOptions(
        device=device,
        spacing=split_numbers(spacing, "--spacing"),
        network=network,
        steps=steps,
        minutes=minutes,
        learning_rate=learning_rate,
        batch_size=batch_size,
        seed=seed,
        precision=precision,
        body_scale=body_scale,
    )
    reading = Reading(**reads)
    if bundle is not None:
        from monai_transfer.workflows.source_free import TestTimeSettings, adapt_source_free, choose_images

        given: dict[str, Any] = {"method": method and method[0], "steps": steps}
        given |= {"learning_rate": learning_rate, "seed": seed}
        settings = TestTimeSettings(**given_of(given))
        images, held = choose_images(
            target, test, target_cases=split_list(target_cases), test_cases=split_list(test_cases), reading=reading
        )
        console.say(f"{len(images)} volume(s) to adapt to, {settings.steps} steps; {len(held or ())} to score.")
        trusted = console.settle_trust([bundle], trust=trust, dry_run=dry_run)
        if dry_run:
            return
        free = adapt_source_free(
            bundle, images, output, test=held, settings=settings, device=device, trust=trusted, overwrite=overwrite
        )
        console.emit_result(free.as_report(), (*free.sentences, f"Bundle: {free.bundle.root}"), as_json=as_json)
    elif source and target.is_file() and holds_profile(target):
        chosen.pop("source_cases")
        absent: dict[str, object] = {**chosen, "test": test, "method": method, "keep_adapted": keep_adapted}
        absent |= {"source": source[1:], "labelled_target_cases": labelled_target_cases, "jobs": jobs}
        absent |= {"body_scale": body_scale, "within": within}
        refuse_given(absent, f"{{}} does not go with {target}, which holds no images of the target: omit it.")
        refuse_given({"minutes": minutes}, f"{{}} does not go with {target}, a profile: give --steps.")
        how = {"overwrite": overwrite, "resume": resume, "dry_run": dry_run, "as_json": as_json}
        cases = labelled_cases(source[0], split_list(source_cases), reading)
        return adapt_to_profile_command(cases, target, output, weights=weights, **how, **options.given)
    elif source:
        definitions = None
        if method:  # the methods are modules of torch, which takes seconds
            from monai_transfer.bundle.methods import method_definitions

            definitions = method_definitions(method)
        domains = choose_domains(
            source[0],
            target,
            test,
            source_cases=split_list(source_cases),
            target_cases=split_list(target_cases),
            test_cases=split_list(test_cases),
            further_sources=source[1:],
            labelled_target_cases=split_list(labelled_target_cases),
            reading=reading,
        )

        from monai_transfer.machine import choose_device, launched, trainings_at_once
        from monai_transfer.workflows.adaptation import ARMS, adapt, plan_from
        from monai_transfer.workflows.reporting import report_adaptation

        refuse_given({"within": within and launched() > 1}, "{} cuts out boxes in one process: omit torchrun.")
        refuse_given({"jobs": launched() > 1 and jobs}, "{} does not go with torchrun, whose processes train together.")
        at_once = jobs or trainings_at_once(choose_device(device), len(ARMS))
        # a dry run has to see the boxes that it plans for, and leaves none
        with TemporaryDirectory() if dry_run else nullcontext() as scratch:
            if within is not None:
                from monai_transfer.workflows.boxes import within_boxes

                trusted = console.settle_trust([within], trust=trust)
                place, again = Path(scratch, "planned") if scratch else output, overwrite or resume
                domains = within_boxes(
                    domains, within, place, device=device, trust=trusted, overwrite=again, say=console.say
                )
            pace = None
            if minutes is not None:
                from monai_transfer.bundle.pacing import Pace

                scored = oracle and domains.has_oracle
                pace = Pace.of_adaptation(minutes, oracle=scored, jobs=at_once, begun=output if resume else None)
            plan = plan_from(domains, weights, pace=pace, **options.given)
        for note in domains.notes:
            console.say(note)
        console.say_plan(plan)
        if dry_run:
            return console.emit_plan(plan, as_json=as_json)
        result = adapt(
            domains,
            plan,
            output,
            methods=definitions,
            oracle=oracle,
            choose=not keep_adapted,
            overwrite=overwrite,
            resume=resume,
            jobs=at_once,
            say=console.say_section,
        )
        page = report_adaptation(result, output)
        console.emit_result(result.summary.as_report(), (*result.summary.sentences, f"Report: {page}"), as_json=as_json)
