"""The command line: `python -m triton_env`, and the console script `triton-env`."""


def main() -> None:
    """Run the command line on the arguments of this process, and exit with its status."""
    from triton_env.cli import command_line

    command_line.main()


if __name__ == "__main__":
    main()
