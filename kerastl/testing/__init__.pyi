from .augmentation import check_augmentation as check_augmentation
from .backbones import check_backbone as check_backbone
