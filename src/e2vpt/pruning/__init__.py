"""The paper, section 3.3: segments, scores, what stays, cutting, rewinding, the picture of what survived.

May import: errors, config, files, backbones, prompting.
Never: methods, training: any model with prompts and any iterable of batches will do.
"""

from e2vpt.pruning.applying import apply as apply
from e2vpt.pruning.applying import num_kept as num_kept
from e2vpt.pruning.applying import visual_kept as visual_kept
from e2vpt.pruning.rewinding import Snapshot as Snapshot
from e2vpt.pruning.rewinding import rewind as rewind
from e2vpt.pruning.rewinding import snapshot as snapshot
from e2vpt.pruning.scores import Scores as Scores
from e2vpt.pruning.scores import score as score
from e2vpt.pruning.selection import Selection as Selection
from e2vpt.pruning.selection import select as select
