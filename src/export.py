"""Write a file that runs elsewhere: ``python src/export.py ckpt_path=<checkpoint or run> format=onnx``."""

from atrous.commands.export import main

if __name__ == "__main__":
    main()
