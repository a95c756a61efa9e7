"""Speech with noise through stft_fp32, a spectral gate, and istft_fp32 back to sound.

python examples/denoise.py [--out demo-output]
"""

from __future__ import annotations

import argparse
import wave
from pathlib import Path

import matplotlib

matplotlib.use("Agg")  # draws into files, needs no display

import blackwell_compat as bc
import numpy as np
import torch
from matplotlib import pyplot as plt
from rich import print
from sound import write_wav

SPEECH = Path(__file__).parent / "data" / "speech.wav"
N_FFT, HOP = 1024, 256  # samples
WINDOW = torch.hann_window(N_FFT)


def read_wav(path: Path) -> tuple[torch.Tensor, int]:
    with wave.open(str(path)) as file:
        if (file.getsampwidth(), file.getnchannels()) != (2, 1):
            raise ValueError(f"{path} must be 16-bit mono")
        samples = np.frombuffer(file.readframes(file.getnframes()), dtype="<i2").astype(np.float32)
        return torch.from_numpy(samples / 32768), file.getframerate()


def stft(sound: torch.Tensor) -> torch.Tensor:
    return bc.stft_fp32(sound, N_FFT, HOP, window=WINDOW, return_complex=True)


def istft(spectrum: torch.Tensor, length: int) -> torch.Tensor:
    return bc.istft_fp32(spectrum, N_FFT, HOP, window=WINDOW, length=length)


def gate(spectrum: torch.Tensor) -> torch.Tensor:
    """Turns down what is not clearly louder than the noise, which is what the quietest tenth of the frames holds."""
    magnitude = spectrum.abs()
    quiet = magnitude.sum(0).argsort()[: max(1, magnitude.shape[1] // 10)]
    noise = magnitude[:, quiet].mean(1, keepdim=True)
    smooth = torch.nn.functional.avg_pool2d(magnitude[None, None], (3, 5), 1, (1, 2), count_include_pad=False)[0, 0]
    return spectrum * torch.sigmoid(6 * (smooth / noise - 2)).clamp(min=0.05)


def noise_level(sound: torch.Tensor, clean: torch.Tensor) -> float:
    """Signal-to-noise ratio in dB."""
    return (10 * torch.log10(clean.square().mean() / (sound - clean).square().mean())).item()


def draw(path: Path, pictures: dict[str, torch.Tensor], rate: int) -> None:
    figure, axes = plt.subplots(len(pictures), 1, figsize=(9, 2.6 * len(pictures)), sharex=True, layout="constrained")
    for axis, (title, spectrum) in zip(axes, pictures.items(), strict=True):
        decibel = 20 * torch.log10(spectrum.abs().clamp(min=1e-5))
        extent = (0, spectrum.shape[1] * HOP / rate, 0, rate / 2000)
        image = axis.imshow(decibel, origin="lower", aspect="auto", extent=extent, vmin=-60, vmax=40, cmap="magma")
        axis.set(title=title, ylabel="kHz")
    axes[-1].set_xlabel("s")
    figure.colorbar(image, ax=axes, label="dB")
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main(out: Path = Path("demo-output")) -> None:
    out.mkdir(parents=True, exist_ok=True)
    clean, rate = read_wav(SPEECH)
    print(f"{SPEECH.name}: {len(clean) / rate:.1f} s at {rate} Hz")
    round_trip = (istft(stft(clean), len(clean)) - clean).abs().max().item()
    print(f"round trip through stft_fp32 and istft_fp32: largest error {round_trip:.1e} of full scale 1")

    noisy = clean + 0.02 * torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
    spectrum = stft(noisy)
    gated = gate(spectrum)
    denoised = istft(gated, len(clean))
    print(
        f"signal to noise: {noise_level(noisy, clean):.1f} dB before the gate, {noise_level(denoised, clean):.1f} after"
    )
    write_wav(out / "speech-noisy.wav", noisy, rate)
    write_wav(out / "speech-denoised.wav", denoised, rate)
    draw(out / "speech-spectrogram.png", {"before": spectrum, "after": gated}, rate)
    if round_trip > 1e-5:
        raise SystemExit("denoise.py: the round trip lost more than rounding does")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("demo-output"))
    main(parser.parse_args().out)
