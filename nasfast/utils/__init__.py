"""What every other package may use: files, progress, interrupts, devices, versions."""
