"""Oxford Flowers 102: `jpg/image_00001.jpg` and so on, `imagelabels.mat`, `setid.mat`.

The archive numbers its classes without naming them. The names are those on which TensorFlow Datasets and
torchvision agree, and which fit the numbers of images that the data set's page gives (pytorch/vision, pull
request 8838).
"""

from __future__ import annotations

from collections import Counter

from e2vpt.benchmarks.fgvc.lists import ImageLists, ListedImage, find_file
from e2vpt.benchmarks.fgvc.matlab import MatFile, mat_numbers, read_mat
from e2vpt.data.listing import Listing, refuse
from e2vpt.data.splits import SplitName
from e2vpt.errors import DataError

_SETS: dict[str, SplitName] = {"trnid": "train", "valid": "val", "tstid": "test"}
# fmt: off
FLOWER_NAMES = (
    "pink primrose", "hard-leaved pocket orchid", "canterbury bells", "sweet pea", "english marigold",
    "tiger lily", "moon orchid", "bird of paradise", "monkshood", "globe thistle", "snapdragon",
    "colt's foot", "king protea", "spear thistle", "yellow iris", "globe-flower", "purple coneflower",
    "peruvian lily", "balloon flower", "giant white arum lily", "fire lily", "pincushion flower",
    "fritillary", "red ginger", "grape hyacinth", "corn poppy", "prince of wales feathers",
    "stemless gentian", "artichoke", "sweet william", "carnation", "garden phlox", "love in the mist",
    "mexican aster", "alpine sea holly", "ruby-lipped cattleya", "cape flower", "great masterwort",
    "siam tulip", "lenten rose", "barbeton daisy", "daffodil", "sword lily", "poinsettia",
    "bolero deep blue", "wallflower", "marigold", "buttercup", "oxeye daisy", "common dandelion",
    "petunia", "wild pansy", "primula", "sunflower", "pelargonium", "bishop of llandaff", "gaura",
    "geranium", "orange dahlia", "pink-yellow dahlia", "cautleya spicata", "japanese anemone",
    "black-eyed susan", "silverbush", "californian poppy", "osteospermum", "spring crocus",
    "bearded iris", "windflower", "tree poppy", "gazania", "azalea", "water lily", "rose", "thorn apple",
    "morning glory", "passion flower", "lotus", "toad lily", "anthurium", "frangipani", "clematis",
    "hibiscus", "columbine", "desert-rose", "tree mallow", "magnolia", "cyclamen", "watercress",
    "canna lily", "hippeastrum", "bee balm", "ball moss", "foxglove", "bougainvillea", "camellia",
    "mallow", "mexican petunia", "bromelia", "blanket flower", "trumpet creeper", "blackberry lily",
)
# fmt: on


def read_flowers(listing: Listing) -> ImageLists:
    """The lists of Oxford Flowers 102, which have a validation set of their own.

    Raises:
        DataError: a list that is missing or truncated, an unknown class, or images in no set or
            in two.
    """
    labels_file, sets_file = find_file(listing, "imagelabels.mat"), find_file(listing, "setid.mat")
    labels = mat_numbers(read_mat(labels_file), "labels")
    unknown = sorted(set(labels) - set(range(1, len(FLOWER_NAMES) + 1)))
    if unknown:
        raise DataError(
            f"{labels_file.name} has classes {unknown[:20]}; expected 1 to {len(FLOWER_NAMES)}. "
            "Download it again."
        )
    splits = _splits(read_mat(sets_file), len(labels))
    images = tuple(
        ListedImage(path=f"jpg/image_{number:05d}.jpg", class_id=label, split=splits[number])
        for number, label in enumerate(labels, start=1)
    )
    names = {label: FLOWER_NAMES[label - 1] for label in sorted(set(labels))}
    return ImageLists(where=listing.where, images=images, class_names=names)


def _splits(mat: MatFile, images: int) -> dict[int, SplitName]:
    """The split of each image by its number, which starts at 1."""
    numbers = {name: mat_numbers(mat, name) for name in _SETS}
    counted = Counter(number for listed in numbers.values() for number in listed)
    twice = {number for number, count in counted.items() if count > 1}
    wrong = twice | (counted.keys() ^ set(range(1, images + 1)))
    refuse(
        f"{mat.where} has {counted.total()} images, imagelabels.mat {images}; in no set, in two, or unknown",
        map(str, sorted(wrong)),
        "Download both again",
    )
    return {number: _SETS[name] for name, listed in numbers.items() for number in listed}
