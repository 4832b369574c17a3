"""The end of each command's help: calls to copy, exit codes. Lines after ``\\b`` stay as they are."""

from __future__ import annotations

ALL = """\
\b
Begin with:
  filtersmith list methods
  filtersmith compare --methods baseline,wau --seeds 3

\b
Exit codes: 0 done; 1 a run failed; 2 the call, a file or a folder is refused;
75 stopped by --time-limit; 130, 143 stopped by Ctrl-C, SIGTERM.
--install-completion: the shell completes names, too (bash, zsh, fish).
"""

COMPARE = """\
\b
Examples:
  filtersmith compare --recipe demo --out runs/demo
  filtersmith compare --data imagefolder:photos --set data.image_size=64 \\
      --model torchvision:resnet18 --methods 'baseline,wau,kflo+wau' --seeds 5
  filtersmith compare --model net.py:make --weights net.pt
  filtersmith compare --task detection --data voc:VOCdevkit

Called again, it goes on where it was stopped.
"""

TRAIN = """\
\b
Example:
  filtersmith train --data cifar10 --model resnet20 --method 'wau(rate=0.5)' \\
      --epochs 90 --resume auto --out runs/one

Called again with --resume auto, it goes on where it was stopped.
"""

EXPORT = """\
\b
Examples:
  filtersmith export runs/one --format onnx
  filtersmith export runs/one --format hub --out resnet20-digits
"""

REPORT = """\
\b
Examples:
  filtersmith report runs/demo
  filtersmith report runs/demo --format csv > demo.csv
"""

AUDIT = """\
\b
Examples:
  filtersmith audit runs/one
  filtersmith audit timm:resnet50 --weights pretrained
  filtersmith audit resnet20 --weights net.pt --data cifar10 --oracle 256
  filtersmith audit runs/wau --against runs/baseline --out runs/both

Without weights they are random; without --data (or the data of a run) weights
alone are looked at.
"""

REPRODUCE = """\
\b
Examples:
  filtersmith reproduce
  filtersmith reproduce --plan all
  filtersmith reproduce repr/table4 --rows 'C^3(32)' --seeds 5
  filtersmith reproduce repr/table1 --scale 0.1 --data digits
  filtersmith reproduce repr/table5 --data imagefolder:imagenet
  filtersmith reproduce --next --time-limit 12m --jobs 8

Finished runs stay in the ledger; called again, it runs what is missing.
"""

LIST = """\
\b
Examples:
  filtersmith list models
  filtersmith list recipes
"""

LIST_METHODS = """\
\b
Then:
  filtersmith describe wau
  filtersmith compare --methods 'baseline,wau,wau(rate=0.25)' --seeds 3
"""

LIST_MODELS = """\
\b
Then:
  filtersmith compare --model resnet20 --data cifar10
  filtersmith audit timm:resnet50 --weights pretrained
"""

LIST_DATA = """\
\b
Then:
  filtersmith train --data imagefolder:photos --dry-run
"""

LIST_TASKS = """\
\b
Then:
  filtersmith train --task detection --data coco:coco2017 --dry-run
"""

LIST_RECIPES = """\
\b
Then:
  filtersmith compare --recipe digits --print-config
"""

DESCRIBE = """\
\b
Example:
  filtersmith describe wau
"""

DOCTOR = """\
\b
Example:
  filtersmith doctor

Exit code 1: the laboratory itself cannot work. What is missing names the
command that installs it. Nothing outside of this machine is asked.
"""
