"""How a BizOSaaS process starts, reports its health and drains; only `app` rooms import it."""
