"""One pass: texts and a model go in, the NFN of every module comes out."""
