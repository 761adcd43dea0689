from .mixer import Mixer as Mixer
from .mixer import build_mixing as build_mixing
from .policy import Policy as Policy
from .policy import build_policy as build_policy
from .presets import named_policy as named_policy
