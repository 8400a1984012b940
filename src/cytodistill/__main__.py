"""``python -m cytodistill``, and what ``torchrun -m cytodistill`` starts on each rank."""

from cytodistill.cli import main

if __name__ == "__main__":
    main()
