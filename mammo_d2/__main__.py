"""``python -m mammo_d2``: the same as the console command ``mammo-d2``."""

from mammo_d2.cli.main import main

if __name__ == "__main__":
    main()
