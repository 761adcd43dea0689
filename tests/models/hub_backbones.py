"""Small backbones of KerasHub with random weights, and presets of them."""

import keras


def _convert_zoo():
    import keras_hub
    from keras_hub.src.models.clip.clip_text_encoder import CLIPTextEncoder
    from keras_hub.src.models.clip.clip_vision_encoder import CLIPVisionEncoder
    from keras_hub.src.models.siglip.siglip_text_encoder import SigLIPTextEncoder
    from keras_hub.src.models.siglip.siglip_vision_encoder import SigLIPVisionEncoder

    hub = keras_hub.models
    image = {"image_shape": (32, 32, 3)}
    free = {"image_shape": (None, None, 3)}
    mb_convolutions = {
        "stackwise_kernel_sizes": [3, 3],
        "stackwise_num_repeats": [1, 2],
        "stackwise_input_filters": [16, 16],
        "stackwise_output_filters": [16, 24],
        "stackwise_expansion_ratios": [1, 4],
        "stackwise_squeeze_and_excite_ratios": [0.25, 0.25],
        "stackwise_strides": [1, 2],
        "width_coefficient": 1.0,
        "depth_coefficient": 1.0,
    }
    return {
        "vit": lambda: hub.ViTBackbone((32, 32, 3), 8, 2, 2, 16, 32),
        "vit_without_class_token": lambda: hub.ViTBackbone(
            (32, 32, 3), 8, 2, 2, 16, 32, use_class_token=False, use_patch_bias=False
        ),
        "deit": lambda: hub.DeiTBackbone((32, 32, 3), 8, 2, 2, 16, 32),
        "dinov2": lambda: hub.DINOV2Backbone(8, 2, 16, 2, 32, **image, position_embedding_shape=(64, 64, 3)),
        "dinov2_with_registers": lambda: hub.DINOV2Backbone(
            8,
            2,
            16,
            2,
            32,
            num_register_tokens=4,
            use_swiglu_ffn=True,
            **image,
            position_embedding_shape=(32, 32, 3),
        ),
        "dinov3": lambda: hub.DINOV3Backbone(8, 2, 16, 2, 32, **image),
        "siglip": lambda: SigLIPVisionEncoder(8, 16, 2, 2, 32, **image),
        "clip": lambda: CLIPVisionEncoder(8, 16, 2, 2, 32, **image),
        "siglip_with_text": lambda: hub.SigLIPBackbone(
            SigLIPVisionEncoder(8, 16, 2, 2, 32, **image),
            SigLIPTextEncoder(20, 16, 16, 2, 2, 32, max_sequence_length=8),
        ),
        "clip_with_text": lambda: hub.CLIPBackbone(
            CLIPVisionEncoder(8, 16, 2, 2, 32, **image),
            CLIPTextEncoder(20, 16, 16, 2, 2, 32, max_sequence_length=8),
            projection_dim=16,
        ),
        "resnet": lambda: hub.ResNetBackbone([64], [7], [64, 64], [2, 2], [1, 2], "basic_block", **free),
        "densenet": lambda: hub.DenseNetBackbone([2, 2, 2]),
        "vgg": lambda: hub.VGGBackbone([1, 1, 1], [8, 16, 16]),
        "xception": lambda: hub.XceptionBackbone([[32, 64], [64, 64]], [True, False]),
        "efficientnet": lambda: hub.EfficientNetBackbone(
            **mb_convolutions, stackwise_block_types=["v1", "v1"]
        ),
        "efficientnet_v2": lambda: hub.EfficientNetBackbone(
            **mb_convolutions, stackwise_block_types=["fused", "unfused"]
        ),
        "mobilenet": lambda: hub.MobileNetBackbone(
            stackwise_expansion=[[40, 56], [64, 144, 144]],
            stackwise_num_blocks=[2, 3],
            stackwise_num_filters=[[16, 16], [24, 24, 24]],
            stackwise_kernel_size=[[3, 3], [5, 5, 5]],
            stackwise_num_strides=[[2, 1], [2, 1, 1]],
            stackwise_se_ratio=[[None, None], [0.25, 0.25, 0.25]],
            stackwise_activation=[["relu", "relu"], ["hard_swish"] * 3],
            stackwise_padding=[[1, 1], [2, 2, 2]],
            output_num_filters=64,
            input_activation="hard_swish",
            output_activation="hard_swish",
            input_num_filters=16,
            depthwise_filters=8,
            depthwise_stride=2,
            depthwise_residual=False,
            squeeze_and_excite=0.5,
            last_layer_filter=48,
            **free,
        ),
    }


NAMES = (
    "vit", "vit_without_class_token", "deit", "dinov2", "dinov2_with_registers", "dinov3", "siglip", "clip", "resnet",
    "densenet", "vgg", "xception", "efficientnet", "efficientnet_v2", "mobilenet",
)  # fmt: skip
SCALE, OFFSET = (0.01, 0.02, 0.03), (-1.0, -0.5, 0.25)


def build(name):
    """Return a KerasHub backbone with random weights, also of biases and normalization layers."""
    keras.utils.set_random_seed(3)
    backbone = _convert_zoo()[name]()
    for weight in backbone.weights:
        if "variance" not in weight.path and "seed" not in weight.path:
            weight.assign(weight + keras.random.normal(weight.shape, stddev=0.05, seed=5))
    return backbone


def save_preset(backbone, folder, **converter):
    """Save a backbone as a preset. Its image converter scales each channel separately."""
    import keras_hub

    backbone.save_to_preset(str(folder))
    settings = {"image_size": (32, 32), "scale": list(SCALE), "offset": list(OFFSET)} | converter
    keras_hub.layers.ImageConverter(**settings).save_to_preset(str(folder))
    return folder
