"""`python -m igpo_lightning.lm_eval`: lm-evaluation-harness's command line, which knows igpo_dllm.

Takes the same arguments as `lm_eval`. Releases of the harness that find models by entry point
(`lm_eval.models`) know ours without this; those up to 0.4.13 know only what was imported.
"""

import sys

from igpo_lightning.errors import ConfigError


def main() -> None:
    """Make the model known, and hand over to the harness."""
    try:
        from lm_eval.__main__ import cli_evaluate
    except ModuleNotFoundError as error:
        if str(error.name).partition(".")[0] != "lm_eval":
            raise
        sys.exit("error: lm-eval is not installed: pip install 'igpo-lightning[lm_eval]'")
    from igpo_lightning.evaluation import lm_eval_model  # noqa: F401 - registers igpo_dllm

    try:
        cli_evaluate()
    except ConfigError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
