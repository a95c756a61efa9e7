"""The HiFi-GAN decoder of VITS, 150 frames (92.2 GFLOP): eager, patched, and what else runs it on a CPU.

transformers' VitsConfig() defaults, random weights, weight norm folded, float32, batch 1. Prints milliseconds, the
ratio eager / each, the error against float64, and the rate of torch's own sgemm, which bounds a plain convolution.
"""

import copy
import io
import json
import statistics
import time

import blackwell_compat
import torch
from common import RESULTS, machine
from transformers import VitsConfig
from transformers.models.vits.modeling_vits import VitsHifiGan

FRAMES, GFLOP, ROUNDS = 150, 92.2, 15


def sgemm_rate(size=2048):
    a, b = torch.randn(size, size), torch.randn(size, size)
    taken = []
    for _ in range(12):
        start = time.perf_counter()
        torch.mm(a, b)
        taken.append(time.perf_counter() - start)
    return 2e-9 * size**3 / statistics.median(taken)


def onnx_bytes(model, x):
    buffer = io.BytesIO()
    torch.onnx.export(model, (x,), buffer, input_names=["x"], output_names=["y"], opset_version=17, dynamo=False)
    return buffer.getvalue()


def onnxruntime_run(onnx):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(onnx, options, providers=["CPUExecutionProvider"])
    return lambda x: torch.from_numpy(session.run(None, {"x": x.numpy()})[0])


def openvino_run(onnx):
    import openvino

    core = openvino.Core()
    settings = {"INFERENCE_NUM_THREADS": torch.get_num_threads(), "INFERENCE_PRECISION_HINT": "f32"}
    compiled = core.compile_model(core.read_model(onnx), "CPU", settings)
    return lambda x: torch.from_numpy(compiled([x.numpy()])[0])


def compiled_run(model):
    import torch._inductor.config

    torch._inductor.config.freezing = True
    return torch.compile(model)


if __name__ == "__main__":
    torch.manual_seed(0)
    config = VitsConfig()
    model = VitsHifiGan(config).eval()
    x = torch.randn(1, config.flow_size, FRAMES)
    patched = copy.deepcopy(model)
    print(blackwell_compat.patch_model(patched))
    with torch.no_grad():
        onnx = onnx_bytes(model, x)
        runs = {
            "eager": model,
            "patched": patched,
            "OpenVINO": openvino_run(onnx),
            "ONNX Runtime": onnxruntime_run(onnx),
            "torch.compile, freezing": compiled_run(copy.deepcopy(model)),
            "eager again": model,
        }
        want = copy.deepcopy(model).double()(x.double())
        results = {name: {"max_error": (run(x).double() - want).abs().max().item()} for name, run in runs.items()}
        taken = {name: [] for name in runs}
        for r in range(ROUNDS + 3):
            for name, run in runs.items():
                start = time.perf_counter()
                run(x)
                if r >= 3:
                    taken[name].append(1e3 * (time.perf_counter() - start))
    eager = statistics.median(taken["eager"])
    where = machine()
    print(f"vits decoder, {FRAMES} frames: {', '.join(f'{key} {value}' for key, value in where.items())}")
    for name, times in taken.items():
        ms = statistics.median(times)
        results[name] |= {"ms": ms, "eager/this": eager / ms, "GFLOP/s": 1e3 * GFLOP / ms}
        print(
            f"{name:<24} {ms:8.1f} ms  eager/this {eager / ms:5.2f}x  {1e3 * GFLOP / ms:5.0f} GFLOP/s  "
            f"max error against float64 {results[name]['max_error']:.1e}"
        )
    rate = sgemm_rate()
    print(f"torch.mm 2048: {rate:.0f} GFLOP/s")
    RESULTS.mkdir(exist_ok=True)
    text = json.dumps({"machine": where, "sgemm GFLOP/s": rate, "runs": results}, indent=2)
    (RESULTS / "vits.json").write_text(text + "\n")
