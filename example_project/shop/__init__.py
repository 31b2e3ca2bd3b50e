"""What both shops share: the goods, the backends to choose from, the pages, the scenarios."""
