"""The methods with everything of a kind that people have: every optimizer that can be made here, and networks.

``python -m benchmarks.sweep optimizers`` or ``networks`` runs the checks and prints what passes, is refused or wrong.
It knows of filtersmith its public names only.

    optimizers.py   which optimizers there are, and which cannot be made here
    twins.py        a small network that trains with one of them, and all that can be compared of it
    masks.py        checks of WAU, EMA and flows: twins that take the same steps
    cycles.py       checks of RePr and DSD: what is held, and what a fresh optimizer would hold

    networks.py     which networks there are, and their checks
    odd.py, odd_structures.py
                    networks of our own whose channels are easily misread
    families.py     one network of each family of torchvision and timm, from families.json
    choosing.py     which one: writes families.json
    subject.py      a network, how it is run, and what is compared of it
    absent.py       the oracle: masks that follow the calls of torch's functions
    leaving_out.py  checks of RePr, Prune, ranks, and of a look at a network
    branching.py    checks of expansions and shared kernels
    children.py     each network in a process of its own, with a time limit

    outcome.py      passed, refused or wrong, with a reason
    report.py       the lines that are printed, and the files for docs/compatibility.md
"""
