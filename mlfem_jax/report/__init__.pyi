from .figures import clutter_figure as clutter_figure, group_figure as group_figure, save_figure as save_figure
from .markdown import markdown_table as markdown_table
from .page import ScoredImage as ScoredImage, encode_pictures as encode_pictures, write_score_page as write_score_page
from .tables import write_csv as write_csv
from .write import Config as Config, write_report as write_report
