"""What every host's adapter needs of the machine: device and precision, random state, attention kernels, patches."""

from .attention import has_xformers_kernel
from .device import default_device, default_dtype, named_dtype
from .patching import MethodHook, copied, only_here, replaced, taking_turns
from .random_state import PrivateStream, drawing_from, generators_in, random_state_kept, rewinder
from .scopes import SCOPES, in_scope, scope_of

__all__ = [
    "SCOPES",
    "MethodHook",
    "PrivateStream",
    "copied",
    "default_device",
    "default_dtype",
    "drawing_from",
    "generators_in",
    "has_xformers_kernel",
    "in_scope",
    "named_dtype",
    "only_here",
    "random_state_kept",
    "replaced",
    "rewinder",
    "scope_of",
    "taking_turns",
]
