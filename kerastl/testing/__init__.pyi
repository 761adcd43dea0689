from .backbones import check_backbone as check_backbone
