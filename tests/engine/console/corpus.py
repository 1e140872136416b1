"""Text that would act if a page took it for markup or a spreadsheet for a formula."""

MARKUP = (
    "<img src=x onerror=alert(1)>",
    "<script>alert(2)</script>",
    '"><svg onload=alert(3)>',
    "javascript:alert(4)",
    "{{constructor.constructor('alert(5)')()}}",
    "<iframe srcdoc='<script>alert(6)</script>'></iframe>",
    "</textarea><script>alert(7)</script>",
    "<a href=javascript:alert(8)>x</a>",
    "<style>@import 'https://example.com/x.css'</style>",
    "&lt;b&gt; &amp; <b>bold</b>",
)

FORMULAS = ("=1+2", "+1", "-1+1", "@SUM(A1)", "=cmd|'/C calc'!A0", '=HYPERLINK("x","y")')
