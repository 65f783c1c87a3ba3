"""Studies: the papers' claims tested with several seeds, recorded, judged by rule, and run again by one command.

    study        what a study is: pieces, comparisons, statements, and the rule by which these hold or fail
    statistics   intervals on paired differences, several comparisons at once, steps to a loss, power laws
    variants     activations that only studies train
    pieces       what computes one run: a language model, a method without labels, a timing, an error of rounding
    catalogue    the studies themselves
    running      all pieces of a study, stopped and taken up again, shared among processes
    records      what is kept: two small files per study and tier in course/reference/studies
    published    curves that papers have published, in course/reference/papers
    results      course/RESULTS.md and the paper map's statuses, from the records
    ablations    what was recorded of the family's members, and an activation of a reader's own beside it
    leaderboard  variants of a reader's own under the recorded protocol, beside what was recorded
    writeup      a page about an experiment of a reader's own
    commands     `minipolycom reproduce`

The figures are in `minipolycom.viz.studies`.
"""
