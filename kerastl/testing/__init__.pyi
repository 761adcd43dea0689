from .adaptation import check_adaptation as check_adaptation
from .augmentation import check_augmentation as check_augmentation
from .augmentation import check_mixing as check_mixing
from .backbones import check_backbone as check_backbone
