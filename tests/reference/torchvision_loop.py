"""A training script with the order and the names that torchvision's references/classification/train.py has.

It is ours, and short. `test_recipes` puts the lines of docs/torchvision.md where a comment says ``place: ...``, and
runs it.
"""

# place: with the imports

from argparse import ArgumentParser
from pathlib import Path
from types import SimpleNamespace

import torch
import torchvision
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_avg_fn
from torchvision.transforms import v2

utils = SimpleNamespace(
    is_main_process=lambda: True,
    save_on_master=torch.save,
    set_weight_decay=lambda model, decay: [{"params": list(model.parameters()), "weight_decay": decay}],
)


def train_one_epoch(model, criterion, optimizer, data_loader, device, epoch, args, model_ema=None, scaler=None):
    model.train()
    for image, target in data_loader:
        with torch.autocast(device.type, torch.float16, enabled=scaler is not None):
            output = model(image)
            loss = criterion(output, target)
            # place: train_one_epoch(): after criterion(output, target)
        optimizer.zero_grad()
        if scaler is not None:
            scaler.scale(loss).backward()
            if args.clip_grad_norm:
                scaler.unscale_(optimizer)
                nn.utils.clip_grad_norm_(model.parameters(), args.clip_grad_norm)
            scaler.step(optimizer)
            scaler.update()
        else:
            loss.backward()
            if args.clip_grad_norm:
                nn.utils.clip_grad_norm_(model.parameters(), args.clip_grad_norm)
            optimizer.step()
        # place: train_one_epoch(): after the step of the optimizer, before model_ema
        if model_ema:
            model_ema.update_parameters(model)


def evaluate(model, criterion, data_loader, device, print_freq=100, log_suffix=""):
    model.eval()
    with torch.inference_mode():
        found = [(model(image).argmax(1) == target).sum() for image, target in data_loader]
    print(f"Test: {log_suffix} {int(sum(found))} right")


def images(args, split):
    steps = [v2.Resize((args.train_crop_size, args.train_crop_size)), v2.ToImage(), v2.ToDtype(torch.float32, True)]
    folder = torchvision.datasets.ImageFolder(str(Path(args.data_path, split)), v2.Compose(steps))
    loader = torch.utils.data.DataLoader(folder, args.batch_size, shuffle=split == "train", num_workers=args.workers)
    return folder, loader


def main(args):
    device = torch.device(args.device)
    torch.manual_seed(0)
    (dataset, data_loader), (_, data_loader_test) = images(args, "train"), images(args, "val")
    model = torchvision.models.get_model(args.model, weights=None, num_classes=len(dataset.classes))
    model.to(device)
    # place: main(): after model.to(device)
    criterion = nn.CrossEntropyLoss()
    parameters = utils.set_weight_decay(model, args.weight_decay)
    # place: main(): after parameters = utils.set_weight_decay(...)
    optimizer = torch.optim.SGD(parameters, args.lr, momentum=0.9, weight_decay=args.weight_decay)
    scaler = torch.amp.GradScaler(args.device) if args.amp else None
    # place: main(): after the gradient scaler is made
    lr_scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=30, gamma=0.1)
    model_without_ddp = model
    model_ema = None
    if args.model_ema:
        model_ema = AveragedModel(model_without_ddp, device, get_ema_avg_fn(0.9), use_buffers=True)
    start_epoch = 0
    if args.resume:
        checkpoint = torch.load(args.resume, map_location="cpu", weights_only=True)
        model_without_ddp.load_state_dict(checkpoint["model"])
        optimizer.load_state_dict(checkpoint["optimizer"])
        lr_scheduler.load_state_dict(checkpoint["lr_scheduler"])
        start_epoch = checkpoint["epoch"] + 1
        if scaler:
            scaler.load_state_dict(checkpoint["scaler"])
    # place: main(): before the first epoch, after --resume and --test-only
    for epoch in range(start_epoch, args.stop or args.epochs):
        torch.manual_seed(epoch)  # a resumed run draws as one that went through
        train_one_epoch(model, criterion, optimizer, data_loader, device, epoch, args, model_ema, scaler)
        lr_scheduler.step()
        # place: main(): after lr_scheduler.step()
        evaluate(model, criterion, data_loader_test, device=device)
        if args.output_dir:
            Path(args.output_dir).mkdir(exist_ok=True)
            checkpoint = {
                "model": model_without_ddp.state_dict(),
                "optimizer": optimizer.state_dict(),
                "lr_scheduler": lr_scheduler.state_dict(),
                "epoch": epoch,
                "args": args,
            }
            if model_ema:
                checkpoint["model_ema"] = model_ema.state_dict()
            if scaler:
                checkpoint["scaler"] = scaler.state_dict()
            # place: main(): before the checkpoint is saved
            utils.save_on_master(checkpoint, str(Path(args.output_dir, "checkpoint.pth")))
    if args.stop:
        raise SystemExit
    # place: main(): at its end


def get_args_parser(add_help=True):
    parser = ArgumentParser(add_help=add_help)
    for option, default in {
        "data-path": "",
        "model": "resnet18",
        "device": "cuda",
        "output-dir": ".",
        "resume": "",
        "batch-size": 32,
        "epochs": 90,
        "workers": 16,
        "train-crop-size": 224,
        "stop": 0,
        "lr": 0.1,
        "weight-decay": 1e-4,
        "clip-grad-norm": 0.0,
    }.items():
        parser.add_argument(f"--{option}", default=default, type=type(default))
    parser.add_argument("--amp", action="store_true")
    parser.add_argument("--model-ema", action="store_true")
    # place: get_args_parser(): before it returns
    return parser


if __name__ == "__main__":
    main(get_args_parser().parse_args())
