"""The networks: a plain ViT that hands out queries and keys, CTI on top of it, the token bank, pre-trained weights."""

from cti.method.bank import TokenBank
from cti.method.network import CTI, CTIOutput

__all__ = ["CTI", "CTIOutput", "TokenBank"]
