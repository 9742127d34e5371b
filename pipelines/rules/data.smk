# The demo data set, or the stand-in of Aff-Wild2. A data set of your own is there already, so then
# this rule does not exist.

if PLAN.config.data.is_made:

    rule demo:
        message:
            "make the {params.profile} data set: video, sound, faces and labels"
        output:
            files=PLAN.demo_outputs()[0],
            faces=[directory(folder) for folder in PLAN.demo_outputs()[1]],
        params:
            folder=lambda wildcards: PLAN.config.data.path,
            profile=PLAN.config.data.profile,
            seed=PLAN.config.data.seed,
        log:
            PLAN.path("logs/demo.log"),
        conda:
            "environment.yaml"
        shell:
            "concord demo make {params.folder:q} --profile {params.profile:q}"
            " --seed {params.seed} > {log:q} 2>&1"
            " || {{ code=$?; tail -n 20 {log:q} >&2; exit $code; }}"
