"""What a phantom is made of, and the labels that a data set of phantoms carries."""

from enum import IntEnum

LABEL_NAMES = {0: "background", 1: "liver", 2: "spleen", 3: "right_kidney", 4: "left_kidney", 5: "aorta"}
"""Label value -> name in every phantom data set."""

LESION_LABEL = 6
"""Value of a lesion in the label maps of phantoms that may have one."""


class Tissue(IntEnum):
    """Materials that look different in CT or in MR.

    Example:
        >>> Tissue(9).name, LABEL_NAMES[1]
        ('LIVER', 'liver')
    """

    AIR = 0
    FAT = 1
    MUSCLE = 2
    MARROW = 3
    CORTICAL_BONE = 4
    DISC = 5
    SPINAL_CANAL = 6
    LUNG = 7
    HEART = 8
    LIVER = 9
    SPLEEN = 10
    KIDNEY_CORTEX = 11
    KIDNEY_MEDULLA = 12
    AORTA = 13
    VEIN = 14
    STOMACH = 15
    BOWEL = 16
    BOWEL_CONTENT = 17
    GALLBLADDER = 18
    TABLE = 19
    LESION = 20
    OPACITY = 21
