"""The methods with everything of a kind that people have: every optimizer that can be made here.

``python -m benchmarks.sweep optimizers`` runs the checks and prints one line for each optimizer. What is checked is
judged by plain twins (`twins`) and knows of filtersmith its public names only.

    optimizers.py   which optimizers there are, and which cannot be made here
    twins.py        a small network that trains with one of them, and all that can be compared of it
    masks.py        checks of WAU, EMA and flows: twins that take the same steps
    cycles.py       checks of RePr and DSD: what is held, and what a fresh optimizer would hold
    outcome.py      passed, refused or wrong, with a reason
    report.py       the lines that are printed, and the file for docs/compatibility.md
"""
