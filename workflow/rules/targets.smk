# A target that the study does not have ends in one line that names the nearest one, where Snakemake
# would only say that no rule makes it. Only here is Snakemake asked for more than its documentation
# promises: its parser tells the targets from other arguments.
from snakemake.cli import get_argument_parser

from maskalign import targets

if workflow.is_main_process and targets.is_command_line(sys.argv):
    asked = get_argument_parser().parse_known_args(sys.argv[1:])[0].targets
    try:
        targets.refuse_unknown(STUDY, asked, workflow.rules)
    except ValueError as error:
        sys.exit(f"study error: {error}")
