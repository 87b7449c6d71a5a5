"""Who answers, who embeds: chat engines, their catalog, and embedders."""
