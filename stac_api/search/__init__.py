"""Search: from a request to SQL over pgstac's items, and back as text.

Items are stored whole, so a page is put together from the database's own text: nothing is parsed,
merged or encoded on the way. Filters and sort keys compare JSON values by their type, so a text in
a property that is a number elsewhere is no error, and one index serves filter and sort alike.
"""
