"""Domain values become what is shown: messages of the chat, and pieces of HTML.

Pure: values in, text out, one module per noun. It does not know Gradio, the store, or what
time it is. Every text that is not ours goes through `escape` or `harmless`; gr.HTML gets
finished HTML, because its own `{{ }}` leaves `${…}` alive and would run it as script.
"""
