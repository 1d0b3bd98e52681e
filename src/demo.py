"""A page to try a network: ``python src/demo.py [ckpt_path=<checkpoint or run>]``."""

from atrous.commands.demo import main

if __name__ == "__main__":
    main()
