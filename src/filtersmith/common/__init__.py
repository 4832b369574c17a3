"""What every other part stands on: options, modules, processes, precision, phases."""
