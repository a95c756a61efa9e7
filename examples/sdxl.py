"""SDXL, text to image: UNet, scheduler and VAE decoder, from noise to a PNG; before and after patch_model.

pip install '.[sdxl]'
python examples/sdxl.py                       # an eighth of its width with random weights, nothing is downloaded
python examples/sdxl.py --model stabilityai/stable-diffusion-xl-base-1.0 --size 1024 --steps 30    # or a folder
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from diffusers import AutoencoderKL, EulerDiscreteScheduler, StableDiffusionXLPipeline, UNet2DConditionModel
from diffusers.image_processor import VaeImageProcessor
from measure import before_and_after, check, device_of, exact, options, show_speed, warm_up
from rich import print

PROMPT, GUIDANCE = "a graphics card in a museum, oil on canvas", 5.0
LAYERS, SMALL = [1, 2, 10], 8  # transformers in a block; a SMALLth of the width unless --full


class Painter(torch.nn.Module):
    """What StableDiffusionXLPipeline does between the prompt's embeddings and the image."""

    def __init__(self, steps: int, unet: UNet2DConditionModel, vae: AutoencoderKL, scheduler: Any) -> None:
        super().__init__()
        self.steps, self.unet, self.vae, self.scheduler = steps, unet, vae, scheduler

    def forward(self, noise: torch.Tensor, hidden: torch.Tensor, pooled: torch.Tensor) -> Any:
        """`hidden` and `pooled` are those of the negative prompt and of the prompt."""
        noise, hidden, pooled = (given.to(device_of(self)) for given in (noise, hidden, pooled))
        frame = 8 * noise.shape[-1] * torch.tensor([[1.0, 1, 0, 0, 1, 1]] * 2, device=noise.device)
        added = {"text_embeds": pooled, "time_ids": frame}
        self.scheduler.set_timesteps(self.steps)
        latents = noise * self.scheduler.init_noise_sigma
        for step in self.scheduler.timesteps:
            both = self.scheduler.scale_model_input(torch.cat([latents, latents]), step)
            negative, positive = self.unet(both, step, hidden, added_cond_kwargs=added).sample.chunk(2)
            latents = self.scheduler.step(negative + GUIDANCE * (positive - negative), step, latents).prev_sample
        return self.vae.decode(latents / self.vae.config.scaling_factor).sample.cpu()


def make(full: bool) -> tuple[Any, ...]:
    """UNet, VAE, scheduler, and what Painter wants to know of a prompt; with random weights."""
    divide = 1 if full else SMALL
    unet = UNet2DConditionModel(
        block_out_channels=tuple(channels // divide for channels in (320, 640, 1280)),
        norm_num_groups=32 // divide,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        mid_block_type="UNetMidBlock2DCrossAttn",
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        transformer_layers_per_block=LAYERS,
        attention_head_dim=[5, 10, 20],
        cross_attention_dim=2048 // divide,
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=256,
        projection_class_embeddings_input_dim=1280 // divide + 6 * 256,
    )
    vae = AutoencoderKL(
        block_out_channels=tuple(channels // divide for channels in (128, 256, 512, 512)),
        norm_num_groups=32 // divide,
        layers_per_block=2,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        scaling_factor=0.13025,
    )
    scheduler = EulerDiscreteScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
    return unet, vae, scheduler, torch.randn(2, 77, 2048 // divide), torch.randn(2, 1280 // divide)


def load(name: str) -> tuple[Any, ...]:
    pipeline = StableDiffusionXLPipeline.from_pretrained(name)
    with torch.no_grad():
        hidden, negative, *pooled = pipeline.encode_prompt(PROMPT)
    return pipeline.unet, pipeline.vae, pipeline.scheduler, torch.cat([negative, hidden]), torch.cat(pooled[::-1])


def main(given: Sequence[str] | None = None) -> None:
    parser = options(__doc__)
    parser.add_argument("--size", type=int, default=256, help="of the image, in pixels")
    parser.add_argument("--steps", type=int, default=4, help="of the scheduler")
    arguments = parser.parse_args(given)
    torch.manual_seed(0)
    *parts, hidden, pooled = load(arguments.model) if arguments.model else make(arguments.full)
    inputs = torch.randn(1, 4, arguments.size // 8, arguments.size // 8), hidden, pooled
    before, after = before_and_after(Painter(arguments.steps, *parts).eval(), arguments)
    with torch.inference_mode(), exact():
        warm_up(after, *inputs)
        want, got = before(*inputs), after(*inputs)
        arguments.out.mkdir(parents=True, exist_ok=True)
        VaeImageProcessor().postprocess(got)[0].save(arguments.out / "sdxl.png")
        print(f"the image is {arguments.out}/sdxl.png")
        check(want, got)
        show_speed(before, after, lambda model: model(*inputs), arguments.rounds, arguments.steps, "steps")


if __name__ == "__main__":
    main()
