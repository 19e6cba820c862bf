"""`check`: the contract tests on a loss."""

from __future__ import annotations

from lossbench.cli.listing import add_folder, of_folder
from lossbench.cli.options import Parser


def check(arguments: list[str]) -> None:
    """`check my_module.my_loss [task_type=…] [setting=…]`: the contract tests; exit 1 where it does not fit."""
    parser = Parser(
        "python -m lossbench check",
        usage="%(prog)s my_module.my_loss | NAME [task_type=TYPE] [setting=value …]",
        description="The contract of a loss, clause by clause, on somebody's own or one of the catalogue.",
        allow_abbrev=False,
    )
    parser.add_argument("loss", nargs="+", metavar="my_module.my_loss", help="or the name of one of the catalogue")
    add_folder(parser)
    asked = parser.parse_intermixed_args(arguments)
    from lossbench import terminal
    from lossbench.config import choices

    folders = choices.folders(of_folder(asked.config_dir))
    from lossbench.contract import checking, table

    checked = checking.check(asked.loss, folders)
    table.show(checked, terminal.out())
    if checked.unfit:
        raise SystemExit(1)
