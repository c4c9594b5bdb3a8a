"""The suite: this service beside other servers doing the same work, in one run on one machine.

Absolute times of a shared machine drift from hour to hour; ratios inside one run hold. So everything that is compared
is measured in turn, in rounds of alternating order, against an echo server that shows what the machine and the HTTP
stack alone can do. Every server's probabilities are checked first, and a percentile whose generator was late is
refused.

    cores · servers        which core for whom; starting a server and waiting until it answers
    agreement              do all servers answer the same probabilities?
    generators             one run of a load generator, with the CPU bill of everybody who took part
    closed_rounds · open_rates · search · load_curve · candidate_cost · spending     the measurements
    results · tables · drawings · page                                               what was found, and showing it
    variants               our own server with single decisions switched off
    inner_parts            parts of our own server by themselves, from loadtest/micro
    run                    all of it in order
"""
