"""Spectra of signals."""

from __future__ import annotations

from typing import Any

import numpy as np

from normexport.runtime.float64.registry import Call, Unsupported, operator
from normexport.runtime.float64.room import require_room


@operator("STFT", since=17)
def short_time_fourier_transform(call: Call, signal: Any, step: Any, window: Any = None, length: Any = None) -> Any:
    """(batch, frames, bins, 2) of signals (batch, samples), (batch, samples, 1), or complex ones (batch, samples, 2).

    Frames are `length` samples, those of the window where only that is given, and begin every `step` samples; what is
    left at the end and makes no frame is dropped.
    """
    hop = int(np.reshape(step, ()))
    size = int(np.reshape(length, ())) if length is not None else len(window) if window is not None else 0
    onesided = bool(call["onesided"])
    is_complex = signal.ndim == 3 and signal.shape[-1] == 2
    numbers = signal[..., 0] + 1j * signal[..., 1] if is_complex else signal.reshape(signal.shape[:2])
    if hop < 1 or not 1 <= size <= numbers.shape[1] or (onesided and is_complex):
        raise Unsupported("frame, step or sides do not fit the signal")
    if window is not None and window.shape != (size,):
        raise Unsupported("the window is not as long as a frame")
    frames = np.lib.stride_tricks.sliding_window_view(numbers, size, axis=1)[:, ::hop]
    bins = size // 2 + 1 if onesided else size
    require_room((*frames.shape[:2], 2 * size), call.operator)
    weighted = frames if window is None else frames * window
    found = np.fft.fft(weighted, axis=-1)[..., :bins]
    return np.stack([found.real, found.imag], axis=-1)
