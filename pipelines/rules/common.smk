# The configuration, checked, and the plan of jobs made from it. Nothing here opens a media file.


from snakemake.exceptions import WorkflowError

try:
    from concord.cache.errors import ConcordError
    from concord.pipelines.plan import EXTRACTION, Plan, use_own_command
except ImportError as error:
    raise WorkflowError(
        f"concord is not installed here ({error}); run: pip install -e ."
    ) from None

try:
    PLAN = Plan.of(config)
    PLAN.dataset
except ConcordError as error:
    raise WorkflowError(str(error)) from None

use_own_command()

# Without a limit of its own, Snakemake lets every job of a local run use the GPU at once.
if "gpu" not in workflow.global_resources:
    workflow.register_resource("gpu", 1)


wildcard_constraints:
    group="|".join(PLAN.groups),
    part=r"\d+",
