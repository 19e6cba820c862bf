"""`check`: the contract tests of a loss."""

from __future__ import annotations

from lossbench.cli.listing import add_folder, folder_arguments
from lossbench.cli.options import Parser


def check(arguments: list[str]) -> None:
    """`check my_module.my_loss [task_type=…] [setting=…]`: run the contract tests; exit 1 where the loss fails."""
    parser = Parser(
        "python -m lossbench check",
        usage="%(prog)s my_module.my_loss | NAME [task_type=TYPE] [setting=value …]",
        description="Test a loss, your own or one of the catalogue, against each clause of the contract.",
        allow_abbrev=False,
    )
    parser.add_argument("loss", nargs="+", metavar="my_module.my_loss", help="or the name of a loss of the catalogue")
    add_folder(parser)
    options = parser.parse_intermixed_args(arguments)
    from lossbench import terminal
    from lossbench.config import choices

    folders = choices.folders(folder_arguments(options.config_dir))
    from lossbench.contract import checking, table

    checked = checking.check(options.loss, folders)
    table.show(checked, terminal.out())
    if checked.unfit:
        raise SystemExit(1)
