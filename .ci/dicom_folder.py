"""The first image of a data set as a DICOM series, as a scanner would send it: ``dicom_folder.py DATASET SERIES``."""

import sys
from pathlib import Path

import nibabel
import numpy as np
from pydicom import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, generate_uid


def main(dataset: Path, folder: Path) -> None:
    """Write a file for each slice."""
    image = nibabel.load(next(iter(sorted(dataset.glob("images*/*.nii.gz")))))
    image = nibabel.as_closest_canonical(image)
    voxels, affine = np.asanyarray(image.dataobj), np.diag([-1.0, -1.0, 1.0, 1.0]) @ image.affine
    steps = [float(np.linalg.norm(affine[:3, axis])) for axis in range(3)]
    study, series, frame = generate_uid(), generate_uid(), generate_uid()
    folder.mkdir(parents=True)
    for number in range(voxels.shape[2]):
        data = Dataset()
        data.SOPClassUID, data.SOPInstanceUID, data.Modality = MRImageStorage, generate_uid(), "MR"
        data.StudyInstanceUID, data.SeriesInstanceUID, data.FrameOfReferenceUID = study, series, frame
        data.PatientName, data.PatientID, data.SeriesNumber, data.InstanceNumber = "Phantom", "1", 1, number + 1
        data.Rows, data.Columns = voxels.shape[1], voxels.shape[0]
        data.PixelSpacing, data.SliceThickness = [steps[1], steps[0]], steps[2]
        data.ImageOrientationPatient = [*(affine[:3, 0] / steps[0]), *(affine[:3, 1] / steps[1])]
        data.ImagePositionPatient = (affine @ [0, 0, number, 1])[:3].tolist()
        data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
        data.BitsAllocated = data.BitsStored = 16
        data.HighBit, data.PixelRepresentation = 15, 1
        data.PixelData = np.ascontiguousarray(voxels[:, :, number].T.astype("<i2")).tobytes()
        data.file_meta = FileMetaDataset()
        data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        data.save_as(folder / f"{number:04d}.dcm", enforce_file_format=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
