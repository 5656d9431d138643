"""The certificate: that both databases agreed, row by row, and that nothing has happened since that would put that in
doubt.

    facts.py    what it is about, and what is known when it is judged
    assess.py   whether it is valid, and what is missing

Pure: what is read is judged here, by one function.

A certificate is issued by a verification of all mappings, complete, without a finding, and with all checks that block
ok. It is void as soon as one of these holds; and once that was noticed, it stays void:

    a transform or the connector is another one      a schema has changed on either side
    a difference is open                             a change waits in the dead letter queue
    a check that blocks is not ok                    a later verification did not come to a proof
    rows may have changed without an event           rows were copied or derived anew since, or will be
    either database is another one: restored, failed over, or made again

How old it may be is not its own affair: a cutover judges that.
"""

from replicator.certificate.assess import Assessment, Lack, Missing, assess_certificate, lacks_of
from replicator.certificate.facts import (
    Identity,
    RunFacts,
    StoredCertificate,
    TargetFacts,
    Things,
    digest_of,
    shape_digest,
    shapes,
)

__all__ = [
    "Assessment",
    "Identity",
    "Lack",
    "Missing",
    "RunFacts",
    "StoredCertificate",
    "TargetFacts",
    "Things",
    "assess_certificate",
    "digest_of",
    "lacks_of",
    "shape_digest",
    "shapes",
]
