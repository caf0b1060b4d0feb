"""The networks: a plain ViT that hands out queries and keys, CTI on top of it, the token bank, pre-trained weights."""

from cti.models.bank import TokenBank
from cti.models.cti import CTI, CTIOutput

__all__ = ["CTI", "CTIOutput", "TokenBank"]
