"""Names that mean something to a shell, to Hydra or to a config, and yet are names of directories."""

ODD_NAMES = [
    *("a run", "it's", 'say "x"', "$HOME", "a=b", "a,b", "[1]", "{a}", "(x)", "~x", "~", "#1", "a:b", "50%", "@home"),
    *(
        "wow!",
        "*",
        "what?",
        "a;b",
        "a&b",
        "a|b",
        "a<b",
        "back\\slash",
        "ends\\",
        "größe",
        "数据",
        "😀",
        "-m",
        "+x",
        ".x",
    ),
    *("blank ", " blank", "new\nline", "tab\t", "${x}", "\\${x}", "1", "1e3", "null", "true", "`x`", "x" * 200),
    *("'quoted'", "a''b", "interval(0,1)", "latest.d", "é'\"$ [,]={}\\"),
]
