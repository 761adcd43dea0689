from .policy import Policy as Policy
from .policy import build_policy as build_policy
