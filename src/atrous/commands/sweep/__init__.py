"""Ask a question with several seeds: ``python src/sweep.py sweep=aspp``; one file of ``conf/sweep`` per question."""

from atrous.composition import entry_point

main = entry_point("sweep", "atrous.commands.sweep.command:sweep")

if __name__ == "__main__":
    main()
