-- What free text asks for. pgstac reads operators in it and fails where they make no expression;
-- then the words are looked for as they are.
CREATE FUNCTION mlops.wanted_words(q jsonb) RETURNS tsquery
LANGUAGE plpgsql STABLE PARALLEL SAFE AS $$
BEGIN
    RETURN pgstac.q_to_tsquery(q);
EXCEPTION WHEN syntax_error THEN
    RETURN websearch_to_tsquery('english', (
        SELECT string_agg(word, ' or ') FROM jsonb_array_elements_text(
            CASE jsonb_typeof(q) WHEN 'array' THEN q ELSE jsonb_build_array(q) END) word));
END;
$$;
