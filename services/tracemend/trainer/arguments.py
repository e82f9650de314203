"""Settings to the keyword arguments of transformers' `TrainingArguments`, the same for every algorithm.

`training` calls it. Whatever a library default would decide in silence (order, template, reports to outside services,
tokens sent to a hub) is stated. Devices are found when it is called, so it imports torch.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tracemend.kit.errors import SetupError
from tracemend.trainer.settings import LoraSettings, TrainSettings


def training_arguments(settings: TrainSettings, *, folder: Path, num_steps: int) -> dict[str, Any]:
    """Keyword arguments for a training of `num_steps` optimiser steps whose checkpoints go to `folder`."""
    import torch

    has_gpu = torch.cuda.is_available()
    checkpointing = has_gpu if settings.gradient_checkpointing == "auto" else settings.gradient_checkpointing
    return {
        "output_dir": str(folder),
        # The schedule holds all epochs, so the loop goes through it once and in order.
        "num_train_epochs": 1,
        "train_sampling_strategy": "sequential",
        "per_device_train_batch_size": settings.batch_size,
        "gradient_accumulation_steps": settings.gradient_accumulation,
        "learning_rate": settings.learning_rate,
        "lr_scheduler_type": settings.scheduler,
        "warmup_steps": int(num_steps * settings.warmup_share),
        "weight_decay": settings.weight_decay,
        "adam_beta1": settings.adam_betas[0],
        "adam_beta2": settings.adam_betas[1],
        "max_grad_norm": settings.max_gradient_norm,
        "optim": "adamw_torch",
        "seed": settings.seed,
        "data_seed": settings.seed,
        "bf16": precision_of(settings) == "bf16",
        "gradient_checkpointing": checkpointing,
        "use_cpu": not has_gpu,
        "dataloader_pin_memory": has_gpu,
        "save_strategy": "steps",
        "save_steps": settings.save_steps,
        "logging_strategy": "steps",
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
        "report_to": "none",
        "disable_tqdm": True,
        "deepspeed": deepspeed_config(settings),
        "ddp_find_unused_parameters": False,
    }


def precision_of(settings: TrainSettings) -> str:
    """`bf16` or `fp32`; a `SetupError` where bf16 is asked for and the GPU has none."""
    import torch

    has_bf16 = torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)
    if settings.precision == "bf16" and torch.cuda.is_available() and not has_bf16:
        raise SetupError("precision: bf16 needs a GPU of the Ampere generation or newer; set precision: fp32")
    return ("bf16" if has_bf16 else "fp32") if settings.precision == "auto" else settings.precision


def deepspeed_config(settings: TrainSettings) -> dict[str, Any] | None:
    """The ZeRO configuration, or None. `auto` values are filled in from the training arguments."""
    if settings.deepspeed == "none":
        return None
    stage = int(settings.deepspeed.removeprefix("zero"))
    zero: dict[str, Any] = {"stage": stage, "overlap_comm": False}
    if settings.offload:
        zero["offload_optimizer"] = {"device": "cpu"}
        if stage == 3:
            zero["offload_param"] = {"device": "cpu"}
    if stage == 3:
        zero["stage3_gather_16bit_weights_on_model_save"] = True
    return {
        "train_batch_size": "auto",
        "train_micro_batch_size_per_gpu": "auto",
        "gradient_accumulation_steps": "auto",
        "gradient_clipping": "auto",
        "bf16": {"enabled": "auto"},
        "zero_optimization": zero,
        # The optimiser is torch's AdamW on every device: DeepSpeed's own would be compiled on the spot.
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
    }


def peft_config(lora: LoraSettings | None) -> Any:
    """peft's configuration of low-rank adapters, or None."""
    if lora is None:
        return None
    from peft import LoraConfig

    targets = "all-linear" if lora.targets == ("all-linear",) else list(lora.targets)
    return LoraConfig(
        r=lora.r, lora_alpha=lora.alpha, lora_dropout=lora.dropout, target_modules=targets, task_type="CAUSAL_LM"
    )
