"""A training script with the parts of timm, in the order and with the names that those of timm have.

It is ours, and short. `test_recipes` puts the lines of docs/timm.md where a comment says ``place: ...``, and runs it.
"""

# place: with the imports

import argparse
from contextlib import nullcontext
from pathlib import Path

import torch
from timm import utils
from timm.data import create_dataset, create_loader
from timm.models import create_model, resume_checkpoint
from timm.optim import create_optimizer_v2, optimizer_kwargs
from timm.scheduler import create_scheduler_v2, scheduler_kwargs
from torch import nn
from torch.nn.parallel import DistributedDataParallel

parser = argparse.ArgumentParser()
for option, default in {
    "data-dir": "",
    "train-split": "train",
    "val-split": "val",
    "model": "resnet18",
    "resume": "",
    "opt": "sgd",
    "output": ".",
    "experiment": "run",
    "sched": "cosine",
    "amp-dtype": "",
    "num-classes": 10,
    "img-size": 224,
    "batch-size": 128,
    "epochs": 300,
    "seed": 42,
    "workers": 4,
    "grad-accum-steps": 1,
    "warmup-epochs": 5,
    "cooldown-epochs": 0,
    "stop": 0,
    "lr": 0.1,
    "momentum": 0.9,
    "weight-decay": 2e-5,
    "clip-grad": 0.0,
    "model-ema-decay": 0.9998,
    "min-lr": 0.0,
}.items():
    parser.add_argument(f"--{option}", default=default, type=type(default))
parser.add_argument("--model-ema", action="store_true")
# place: with the options, before they are parsed


def main():
    args = parser.parse_args()
    device = utils.init_distributed_device(args)
    utils.random_seed(args.seed, args.rank)
    model = create_model(args.model, num_classes=args.num_classes).to(device)
    # place: main(): before the optimizer is made
    args.opt_kwargs = {}
    optimizer = create_optimizer_v2(model, **optimizer_kwargs(cfg=args))
    amp_autocast, loss_scaler = nullcontext, None
    if args.amp_dtype:
        amp_autocast = lambda: torch.autocast("cpu", getattr(torch, args.amp_dtype))  # noqa: E731
        loss_scaler = utils.NativeScaler(device="cpu") if args.amp_dtype == "float16" else None
    # place: main(): after mixed precision is set up, before it resumes
    resume_epoch = None
    if args.resume:
        resume_epoch = resume_checkpoint(model, args.resume, optimizer=optimizer, loss_scaler=loss_scaler)
    model_ema = utils.ModelEmaV3(model, decay=args.model_ema_decay) if args.model_ema else None
    if args.distributed:
        model = DistributedDataParallel(model)
    loader_train, loader_eval = loader(args, args.train_split, device), loader(args, args.val_split, device)
    saver = None
    output_dir = Path(args.output, args.experiment)
    if utils.is_primary(args):
        output_dir.mkdir(parents=True, exist_ok=True)
        saver = utils.CheckpointSaver(
            model, optimizer, args, model_ema, loss_scaler, checkpoint_dir=str(output_dir), recovery_dir="."
        )
    updates = -(-len(loader_train) // args.grad_accum_steps)
    lr_scheduler, num_epochs = create_scheduler_v2(optimizer, **scheduler_kwargs(args), updates_per_epoch=updates)
    start_epoch = resume_epoch or 0
    if start_epoch > 0:
        lr_scheduler.step(start_epoch)
    validate_loss_fn = nn.CrossEntropyLoss()
    # place: main(): after the schedule is made, before the first epoch
    try:
        for epoch in range(start_epoch, args.stop or num_epochs):
            utils.random_seed(args.seed, args.rank + epoch)  # a resumed run draws as one that went through
            train_one_epoch(
                epoch,
                model,
                loader_train,
                optimizer,
                args,
                amp_autocast=amp_autocast,
                loss_scaler=loss_scaler,
                model_ema=model_ema,
                # place: main(): the last argument of train_one_epoch(...)
            )
            # place: main(): after train_one_epoch(...)
            eval_metrics = validate(
                model,
                loader_eval,
                validate_loss_fn,
                args,
                amp_autocast=amp_autocast,
                # place: main(): the last argument of validate(...)
            )
            # place: main(): after validate(...) of the model
            if model_ema is not None:
                eval_metrics = validate(
                    model_ema.module,
                    loader_eval,
                    validate_loss_fn,
                    args,
                    amp_autocast=amp_autocast,
                    log_suffix=" (EMA)",
                    # place: main(): the last argument of validate(...) of the average
                )
            if saver is not None:
                save_metric = eval_metrics["top1"]
                # place: main(): before saver.save_checkpoint(...)
                saver.save_checkpoint(epoch, metric=save_metric)
            if lr_scheduler is not None:
                lr_scheduler.step(epoch + 1, eval_metrics["top1"])
    except KeyboardInterrupt:
        pass
    if args.stop:
        raise SystemExit
    # place: main(): at its end


def loader(args, split, device):
    training = split == args.train_split
    return create_loader(
        create_dataset("", args.data_dir, split=split, is_training=training, batch_size=args.batch_size),
        input_size=(3, args.img_size, args.img_size),
        batch_size=args.batch_size,
        is_training=training,
        num_workers=args.workers,
        distributed=args.distributed,
        device=device,
    )


def train_one_epoch(
    epoch, model, loader, optimizer, args, device=None, amp_autocast=nullcontext, loss_scaler=None, model_ema=None
):
    assert device is not None
    model.train()
    for batch_idx, (input, target) in enumerate(loader):
        need_update = batch_idx + 1 == len(loader) or (batch_idx + 1) % args.grad_accum_steps == 0

        def _forward(input=input, target=target):
            with amp_autocast():
                output = model(input)
                loss = nn.functional.cross_entropy(output, target)
                # place: train_one_epoch(): after loss_fn(output, target)
            return loss / args.grad_accum_steps

        loss = _forward()
        given = {"clip_grad": args.clip_grad or None, "parameters": model.parameters(), "need_update": need_update}
        if loss_scaler is not None:
            loss_scaler(loss, optimizer, **given)
        else:
            loss.backward()
            if need_update:
                if args.clip_grad:
                    utils.dispatch_clip_grad(model.parameters(), args.clip_grad)
                optimizer.step()
        if not need_update:
            continue
        optimizer.zero_grad()
        # place: train_one_epoch(): after optimizer.zero_grad() behind the step
        if model_ema is not None:
            model_ema.update(model)


def validate(model, loader, loss_fn, args, device=None, amp_autocast=nullcontext, log_suffix=""):
    assert device is not None
    model.eval()
    with torch.no_grad(), amp_autocast():
        found = [(output := model(input), target, loss_fn(output, target)) for input, target in loader]
    right = sum(float((output.argmax(1) == target).sum()) for output, target, _ in found)
    print(f"Test{log_suffix}: {right:.0f} right")
    return {"top1": right}


if __name__ == "__main__":
    main()
