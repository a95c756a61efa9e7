"""Which modules of a voice suffer in bfloat16: the table, the picture, and the islands that keep 40 dB.

python examples/precision.py precision.png
"""

import sys

import blackwell_compat as bc
import torch
import transformers

torch.manual_seed(0)
config = transformers.VitsConfig(upsample_initial_channel=128)  # a quarter of the width, random weights
vocoder = transformers.VitsModel(config).decoder.eval()
spectrogram = torch.randn(1, config.flow_size, 40)

report = bc.precision_report(vocoder, spectrogram, "bf16")
print(report)
report.plot(sys.argv[1] if len(sys.argv) > 1 else "precision.png")
policy = bc.suggest_policy(vocoder, spectrogram, max_error=0.01)
print(f"islands for 40 dB: {', '.join(policy.float32) or 'none beside the default ones'}")
print(f"with them: {bc.precision_report(vocoder, spectrogram, policy).whole.decibels:.1f} dB")
