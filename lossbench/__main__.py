"""`python -m lossbench …`."""

from lossbench.cli.main import console

if __name__ == "__main__":
    console()
