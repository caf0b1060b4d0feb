"""What is done with a finished run: reports, exports, the web page, the quickstart."""
