"""Training with norms: which weights are scale invariant, eq. 4, and going on from a checkpoint of others.

What weight decay does to a weight before a norm is nothing but to set how far a step turns it. `record_channel_norms`
records a run with weight decay, and `EffectiveLR` takes the same turns without it.
"""

from normexport.train.averaging import update_norms
from normexport.train.bounded_weights import LoadedWeight
from normexport.train.effective_lr import EffectiveLR, effective_step_size
from normexport.train.fusing import fuser_methods
from normexport.train.invariance import InvariantLayer, ScaleInvariance, find_scale_invariant
from normexport.train.recorder import NormRecorder, record_channel_norms
from normexport.train.recording import ChannelNorms, read_channel_norms
from normexport.train.trainable import LoadedNorm, Trainable, load_trainable

__all__ = [
    "ChannelNorms",
    "EffectiveLR",
    "InvariantLayer",
    "LoadedNorm",
    "LoadedWeight",
    "NormRecorder",
    "ScaleInvariance",
    "Trainable",
    "effective_step_size",
    "find_scale_invariant",
    "fuser_methods",
    "load_trainable",
    "read_channel_norms",
    "record_channel_norms",
    "update_norms",
]
